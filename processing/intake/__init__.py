"""Intake: files are found, read row by row, checked, and merged with the rows that the tables already hold."""
