"""Dataset marks measured on real text: input level and output level."""
