"""The page that shows pictures of one scene against each other, and the one component that does it.

    image -> image_file for a server, or data_uri -> Shown, Scene -> viewer -> page -> the bytes of an HTML file

`viewer.js` and `viewer.css` are the component, a custom element without a framework. A page holds all that it needs,
but for pictures that a server has. Programs use it: `view`, `compare --html` and the report of `bench`.
"""
