// How every unit is drawn: its question with a hint, and its buttons (name, text, key, the main one). `{class}` is the class
// that is asked about. A button's name is one of `actions.js`, or the verdict that it gives without a box.

export const UNITS = {
  questions: {
    box: ["Is this: {class}?", "Mend the box by dragging or with the arrow keys, then accept."],
    image: ["Label every object in the image", "Drag to draw a box. When everything is labelled, say so."],
    film: ["Label every object in the frame", "Drag to draw a box. When everything is labelled, say so."],
    region: ["Label every object in the lit region", "Drag to draw a box. When everything in the region is labelled, say so."],
    class: ["Which class is this image?", ""],
    "box to review": ["Is this label right: {class}?", "Mend the box by dragging or with the arrow keys, then accept."],
    "class to review": ["Is this label right?", "Labelled: {class}"],
  },
  buttons: {
    box: [["accept", "Accept", "A", true], ["reject", "No object", "R"], ["duplicate", "Duplicate", "D"]],
    image: [["accept", "Everything is labelled", "A", true], ["nothing", "Nothing in here", "N"], ["add", "New box", "B"], ["remove", "Remove", "Del"]],
    region: [["accept", "Everything in here is labelled", "A", true], ["nothing", "Nothing in here", "N"], ["add", "New box", "B"], ["remove", "Remove", "Del"]],
    class: [["accept", "It is {class}", "A", true]],
  },
};

/** The units on whose page boxes are drawn. */
export const DRAWN = new Set(["image", "region"]);
