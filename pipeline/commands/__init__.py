"""What `pipeline.command` is made of: a module for each group of commands."""
