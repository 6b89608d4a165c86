"""What can be proved. Imports :mod:`watermarks`, never training or pipelines: what a third party must trust stays small."""
