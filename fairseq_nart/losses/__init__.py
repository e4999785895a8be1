"""Losses: tensors in, sums over tokens out. One place, the criterion, divides them."""
