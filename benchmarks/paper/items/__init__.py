"""All items by name, in the order of the page. To add one, write a module with an `ITEM` and add it to the list."""

from paper.item import Item
from paper.items import fig2, fig4, fig4e, fig5, figa2, figa4, figa7, figa8, mi, table2, theorems

__all__ = ["ITEMS"]

ITEMS: dict[str, Item] = {
    item.name: item
    for item in (
        fig2.ITEM,
        table2.ITEM,
        figa2.ITEM,
        mi.ITEM,
        fig4.ITEM,
        fig4.FIGA3,
        fig4e.ITEM,
        figa4.ITEM,
        fig5.ITEM,
        fig5.FIGA6,
        figa7.ITEM,
        figa8.ITEM,
        theorems.ITEM,
    )
}
