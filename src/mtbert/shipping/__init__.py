"""A trained model as others use it: graphs, folders of other libraries, a card."""
