"""Making model files: conversion of trained float weights."""
