"""What passes and why: the cases of golden sets, their outcomes, and the verdict. Pure."""
