"""What starts a run or promotes a model: Lambda handlers and the local folder watcher."""
