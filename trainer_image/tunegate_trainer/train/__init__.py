"""The parts of the train role: starting weights, trainer, checkpoints, evaluations and progress of one
stage."""
