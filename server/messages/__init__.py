"""OpenAI's messages: their shapes, and their conversion to and from LangChain's."""
