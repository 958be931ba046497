"""Model packages: what they are on disk, what is verified before they run, and the session that runs them."""

from models.packages.card import VIBRATION, Card, Input, Output
from models.packages.package import Package, load, write
from models.packages.session import Session

__all__ = ["VIBRATION", "Card", "Input", "Output", "Package", "Session", "load", "write"]
