"""How good it is: measures, comparisons to listen to and to see, scores of whole folders."""
