"""The first hour: from a person's files to a recipe."""
