"""What `pipeline.command.main` is made of: a module for each group of commands."""
