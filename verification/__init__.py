"""What can be proved. Imports :mod:`watermarks` and nothing above: what a third party must trust stays small."""
