"""The API's document and its pages."""
