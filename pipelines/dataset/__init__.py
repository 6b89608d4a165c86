"""Somebody's dataset, marked before release: input level for classifiers, output level for generators."""
