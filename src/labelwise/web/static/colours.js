// A colour of its own for every class: hues a golden angle apart, three shades; over the black line below each box all are seen.

const TURN = 137.508, SHADES = [62, 76, 52];

export const colourOf = (label) => `hsl(${Math.round((50 + label * TURN) % 360)} 95% ${SHADES[label % SHADES.length]}%)`;
