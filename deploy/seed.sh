# Applies the pipelines of examples/ and runs them. Ends with an error when a run does not end well.
# usage: EXAMPLES=examples sh deploy/seed.sh       (PENSTOCK_ADDRESS says where)
set -eu
cd "$EXAMPLES"
penstock run chain.yaml -p n=7
penstock run chain.py -p n=7
penstock run regions.py -p 'names=["north", "south", "east"]'
penstock run etl/flights.py
penstock run ml/digits.py:training
# It wants the model that the training has made: docs/ml-example.md.
penstock apply ml/digits.py:prediction
