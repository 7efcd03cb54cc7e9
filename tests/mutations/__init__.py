"""Selfcheck with one fault at a time: does any of its checks, or a unit test, see it?"""
