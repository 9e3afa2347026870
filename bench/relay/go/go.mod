module edge.bench/relay

go 1.22
