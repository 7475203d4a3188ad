module farcall

go 1.19
