"""What upstream ships: read from wheels where they lie, kept as a data file, watched for rot."""
