"""How fast mtbert is, measured beside what people would use instead."""
