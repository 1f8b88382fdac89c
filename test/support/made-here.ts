/** The tests that functions of this folder have made for the file that runs: node:test says of them that they are from here. */
export const madeHere: string[] = [];
