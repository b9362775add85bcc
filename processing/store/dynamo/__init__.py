"""The online store in DynamoDB."""
