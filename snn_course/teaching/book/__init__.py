"""The book: ``results/index.html`` and a page for each script, from its text and from its last run.

    cells     a script as prose and code
    prose     Markdown and formulas to HTML
    listing   code to HTML, in pieces, so that results can stand below the function that made them
    findings  what runs have left behind, by function
    printed_quiz  its quiz, with the answers folded away
    live      figures that move
    inventory  the scripts in the order of the course, each with its runs
    front     what the front page tells of them
    pages     all of it on pages: ``python -m snn_course.teaching.book`` writes them

The pages need no server and no network.
"""
