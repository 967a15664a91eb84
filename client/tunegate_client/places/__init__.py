"""Read FineTuneJobs and EvalGates with a user's rights, in a runs folder or on a cluster."""
