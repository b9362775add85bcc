"""The feature job in Spark, here and in Glue, and the repair of what it keeps."""
