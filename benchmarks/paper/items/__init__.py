"""All items by name, in the order of the page. To add one, write a module with an `ITEM` and add it to the list."""

from paper.item import Item
from paper.items import fig4, fig4e, fig5, figa4, figa7, theorems

__all__ = ["ITEMS"]

ITEMS: dict[str, Item] = {
    item.name: item
    for item in (fig4.ITEM, fig4.FIGA3, figa4.ITEM, fig4e.ITEM, fig5.ITEM, fig5.FIGA6, figa7.ITEM, theorems.ITEM)
}
