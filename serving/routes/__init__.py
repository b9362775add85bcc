"""The API's routes, a module for each subject. A new module's router is added in `serving.app`."""
