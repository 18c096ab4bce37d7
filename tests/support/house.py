"""The import graph of the code, room by room: `make check` prints its figures.

A room is a module or a folder of `server`, a folder of `graph` or `tools`, or what stands beside those folders there. A
room stands on a floor above all that it imports.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

import grimp

MOST_ROOMS, MOST_FLOORS, MOST_ARROWS = 21, 10, 80

Rooms = Mapping[str, set[str]]
"""The rooms that each room imports."""


def main() -> None:
    """Print the rooms, from the top floor down, and how many there are of everything."""
    rooms = imported_rooms()
    floors = floors_of(rooms)
    for room in sorted(rooms, key=lambda room: (-floors[room], room)):
        print(f"{floors[room]:3}  {room:18} {' '.join(sorted(rooms[room]))}")
    print(figures(rooms))
    if not is_within_bounds(rooms):
        sys.exit(f"There may be {MOST_ROOMS} rooms, {MOST_FLOORS} floors and {MOST_ARROWS} arrows at most.")


def imported_rooms() -> Rooms:
    """Return the rooms of the code, and which others each imports."""
    graph = grimp.build_graph("server", "graph", "tools")
    folders = {module for module in graph.modules if graph.find_children(module)}
    rooms: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules - {"server"}:  # which holds nothing but the version
        room = room_of(module, folders)
        others = {room_of(other, folders) for other in graph.find_modules_directly_imported_by(module)}
        rooms[room] |= others - {room, "server"}
    return rooms


def room_of(module: str, folders: set[str]) -> str:
    """Return the room that a module is in."""
    inner = ".".join(module.split(".")[:2])
    return inner if module.startswith("server.") or inner in folders else module.partition(".")[0]


def floors_of(rooms: Rooms) -> Mapping[str, int]:
    """Return the floor of each room, from 1.

    Raises:
        CycleError: rooms import each other in a circle.
    """
    floors: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        floors[room] = 1 + max((floors[below] for below in rooms[room]), default=0)
    return floors


def figures(rooms: Rooms) -> str:
    """Return how many of everything there are."""
    arrows = sum(map(len, rooms.values()))
    return f"{len(rooms)} rooms on {max(floors_of(rooms).values())} floors, {arrows} import arrows, no circle"


def is_within_bounds(rooms: Rooms) -> bool:
    """Whether the house is as small as it is meant to be."""
    few = len(rooms) <= MOST_ROOMS and sum(map(len, rooms.values())) <= MOST_ARROWS
    return few and max(floors_of(rooms).values()) <= MOST_FLOORS


if __name__ == "__main__":
    try:
        main()
    except CycleError as circle:
        sys.exit(f"Rooms import each other in a circle: {' -> '.join(circle.args[1])}")
