"""The words for the agreement of two label images, from the worst to the best."""

AGREEMENTS = ("different", "close", "equivalent", "identical")
