"""The claims of the program, each with an oracle of its own; `support` holds what several of them use."""
