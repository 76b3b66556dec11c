"""All items by name, in the order of the page. To add one, write a module with an `ITEM` and add it to the list."""

from paper.item import Item
from paper.items import fig4

__all__ = ["ITEMS"]

ITEMS: dict[str, Item] = {item.name: item for item in (fig4.ITEM, fig4.FIGA3)}
