"""The peers, each as its own documentation sets it up; run by the benchmarks in processes of their own."""
