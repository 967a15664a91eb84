"""Code that every process of the trainer uses: context, errors, files, signals and reports."""
