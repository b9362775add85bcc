"""The feature job in Spark, on a laptop and in Glue; the check and the repair of what it stores."""
