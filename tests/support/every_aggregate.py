"""A contract with every aggregate, over windows of all three tile sizes."""

from processing.contracts.reader import parse

TEXT = """
name = "everything"
numeric = ["lat", "lon"]
categorical = { channel = ["chip", "card = absent", "on 'line'"] }
[columns]
id = "id"
time = "at"
amount = "value"
label = "fraud"
[label]
delay_days = 2
[[entity]]
name = "customer"
column = "customer_id"
windows = ["10m", "6h", "1d", "30d"]
fraud_windows = ["1d", "30d"]
aggregates = ["count", "amount", "extremes", "recency", "distinct:terminal_id", "last:lat,lon", "share:channel"]
[[entity]]
name = "terminal"
column = "terminal_id"
windows = ["10m", "7d"]
fraud_windows = ["6h", "7d"]
aggregates = ["distinct:channel", "extremes"]
busy = true
[[entity]]
name = "visitor"
columns = ["customer_id", "terminal_id"]
windows = ["30d"]
aggregates = ["recency", "last:lat", "share:channel"]
"""
CONTRACT = parse(TEXT)
