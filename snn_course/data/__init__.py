"""Sets of pictures: the course's three from a copy, a download or a stand-in; others; or a folder."""

from snn_course.data.choice import CHOICES, load
from snn_course.data.images import ARTICLES, DIGITS, Images

__all__ = ["ARTICLES", "CHOICES", "DIGITS", "Images", "load"]
