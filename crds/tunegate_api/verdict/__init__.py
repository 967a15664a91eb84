"""Rules, and the judgement of outcomes by them. No I/O."""
