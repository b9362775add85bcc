"""Files that are taken in: found, read row by row, checked, and merged with what is there."""
