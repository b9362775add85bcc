"""Data: the dataset contract, features, tables, the online store and the Spark feature job."""
