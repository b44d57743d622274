"""The words for how well two label images agree, from the worst to the best."""

AGREEMENTS = ("different", "close", "equivalent", "identical")
