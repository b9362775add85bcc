"""Pages about models: the report that is published with each, and the drift page. One HTML file each."""
