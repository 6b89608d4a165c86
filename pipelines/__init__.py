"""The only floor where marks, training and verification meet: config, artifacts, stages and the command line."""
