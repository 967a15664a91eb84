"""Judge jobs: find the outcomes and baselines of each gate, and what follows from the verdict. No I/O."""
