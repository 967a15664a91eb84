"""The corpus of judgements: what the product decided about measured outcomes. It proves that a change of the
code that judges changes no judgement. CONTRIBUTING.md describes the corpus."""
