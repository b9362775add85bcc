"""The checks of the deployed system, one module each. `run_check` runs one of them by its module's name.

A module has `check(system)`, may have `add_options(parser)`, and its docstring is the title of its report.
"""
