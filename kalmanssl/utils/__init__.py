"""Helpers shared by the sub-packages. They are not part of the public interface; import the modules directly."""
