"""``python -m snn_course.teaching.book`` writes the book; with ``--readme`` also the table in README.md."""

import sys

from snn_course.runs import report
from snn_course import ROOT, UsageError, reader_is_gone, results_dir
from snn_course.teaching.book import pages


def main(arguments: list[str]) -> int:
    """Write the pages, and with ``--readme`` the table. Returns: the exit code."""
    try:
        print(f"The book, with all results: {pages.write(results_dir())}")
        if "--readme" in arguments:
            report.update_readme(ROOT / "README.md", report.readme_table(results_dir()))
            print("The table in README.md is up to date.")
        sys.stdout.flush()
    except UsageError as error:
        print(f"course.py report: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not reader_is_gone(error):
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
