"""The data side: dataset contract, features, tables, online store and the Spark feature job."""
