"""OpenAI's messages: their shapes, LangChain's made of them, and back."""
